//! A caller of another pipeline who must not notice what happens beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::client::Client;

/// How long an answer may take beside whatever happens. The machine of a test may be busy
/// with a dozen other tests; the benchmark of compile bombs has a sharper bound.
const IN_TIME: Duration = Duration::from_secs(3);

/// Calls of the pipeline `good`, one after the other, that go on until it is stopped, and
/// fail it if one is answered late or not exactly.
pub struct Canary {
    done: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Canary {
    /// Begins to call.
    pub fn start(client: &Client) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let (client, done) = (client.clone(), Arc::clone(&done));
            async move {
                let mut answered = 0;
                while !done.load(Ordering::Acquire) {
                    let begun = Instant::now();
                    let answer = client.predict("good", &json!({ "number": answered })).await.ok();
                    assert_eq!(answer["body"], json!({ "number": answered }).to_string());
                    assert_eq!(answer["calls"], 1, "an instance is used once");
                    let took = begun.elapsed();
                    assert!(took < IN_TIME, "the canary waited for {took:?}");
                    answered += 1;
                }
                answered
            }
        });
        Self { done, task }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When any of its calls went wrong.
    pub async fn stop(self) {
        self.done.store(true, Ordering::Release);
        let answered = self.task.await.expect("the canary was answered right");
        assert!(answered > 10, "the canary was answered {answered} times only");
    }
}
