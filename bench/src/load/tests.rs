//! The closed loop against small servers.

use super::*;
use crate::echo::Echo;

fn plan(address: SocketAddr) -> LoadPlan {
    LoadPlan {
        address,
        protocol: Protocol::Http1,
        paths: vec!["/echo?x=1".to_owned()],
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        bodies: Arc::new(vec![Bytes::from_static(b"{\"a\":1}"), Bytes::from(vec![b'x'; 100_000])]),
        concurrency: 8,
        warmup: Duration::from_millis(100),
        duration: Duration::from_millis(400),
        check: None,
    }
}

fn run_now(plan: LoadPlan) -> LoadReport {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(run(plan))
}

#[test]
fn an_echo_answers_every_body_as_it_was_sent() {
    let echo = Echo::start(1, None).expect("a server");
    let mut plan = plan(echo.address());
    let bodies = Arc::clone(&plan.bodies);
    plan.check = Some(Arc::new(move |index, body| {
        (bodies[index] == body).then_some(()).ok_or_else(|| "another body".to_owned())
    }));
    let report = run_now(plan);
    assert_eq!((report.errors, &report.first_error), (0, &None));
    assert!(report.requests > 50 && report.throughput_per_s > 100.0, "{report:?}");
    assert!(0 < report.p50_us && report.p50_us <= report.p90_us, "{report:?}");
    assert!(report.p90_us <= report.p99_us && report.p99_us <= report.max_us, "{report:?}");
    assert_eq!(report.to_json()["requests"], report.requests);
}

#[test]
fn an_answer_that_fails_its_check_is_an_error_and_no_request() {
    let echo = Echo::start(1, None).expect("a server");
    let check: Check = Arc::new(|index, _| if index == 1 { Err("wrong".to_owned()) } else { Ok(()) });
    let report = run_now(LoadPlan { check: Some(check), ..plan(echo.address()) });
    assert!(report.errors > 0 && report.requests > 0, "{report:?}");
    assert_eq!(report.first_error.as_deref(), Some("body 1: wrong"));
}

#[test]
fn a_status_other_than_200_is_an_error_that_shows_the_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            while std::io::Read::read(&mut stream, &mut request).is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nfull";
                if std::io::Write::write_all(&mut stream, answer).is_err() {
                    break;
                }
            }
        }
    });
    let bodies = Arc::new(vec![Bytes::from_static(b"{}")]);
    let report = run_now(LoadPlan { bodies, concurrency: 1, ..plan(address) });
    assert_eq!(report.requests, 0);
    // More than reconnecting with a pause would give: the connection is kept.
    assert!(report.errors > 100, "{report:?}");
    assert_eq!(report.first_error.as_deref(), Some("status 429 Too Many Requests: full"));
}

#[test]
fn a_server_that_is_gone_is_reported_and_not_counted() {
    let echo = Echo::start(1, None).expect("a server");
    let address = echo.address();
    drop(echo);
    let report = run_now(plan(address));
    assert_eq!((report.requests, report.max_us), (0, 0));
    assert!(report.errors > 0 && report.first_error.is_some(), "{report:?}");
}

#[test]
fn a_plan_that_cannot_be_sent_is_refused() {
    let nothing = LoadPlan { bodies: Arc::default(), ..plan(SocketAddr::from(([127, 0, 0, 1], 9))) };
    assert_eq!(run_now(nothing).errors, 1);
}

#[test]
fn percentiles_are_exact() {
    let values: Vec<u64> = (1..=200).collect();
    assert_eq!([50, 90, 99, 100].map(|percent| percentile(&values, percent)), [100, 180, 198, 200]);
    assert_eq!(percentile(&[7], 50), 7);
    assert_eq!(percentile(&[], 99), 0);
}

#[test]
fn the_memory_of_this_process_is_known_and_that_of_none_is_not() {
    if cfg!(target_os = "linux") {
        let rss = rss_bytes(std::process::id()).expect("this process has memory");
        assert!((1 << 16..1 << 40).contains(&rss), "{rss} bytes");
    }
    assert_eq!(rss_bytes(u32::MAX), None);
}
