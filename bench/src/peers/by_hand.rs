//! Two servers written by hand: bare HTTP, and the whole workload without any batching.
//!
//! Both have one thread, as each server of the comparison has one core. The second is what
//! a Rust programmer would write who needs no gateway: the body parsed in place, dense rows,
//! the model run on the same thread, the answer.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use example_common::{Fnv1a, K_DEFAULT, Question, Ranking, Score, WIDTH, best_of, candidate_prefix, sigmoid};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sluice_engine::{EngineChoice, Instance, Interrupt, LoadOptions};
use sluice_tensor::{DType, NamedTensor, Shape, Tensor};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ByHand {
    /// Answers with the body.
    Echo,
    /// Answers as the workload asks, one request after the other.
    Predict,
}

/// Serves until the process is killed.
///
/// # Errors
/// The port or the model cannot be had.
pub fn serve(what: ByHand, port: u16) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    let model = if what == ByHand::Predict { Some(Rc::new(RefCell::new(Model::load()?))) } else { None };
    LocalSet::new().block_on(&runtime, async move {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await.map_err(text)?;
        loop {
            let (stream, _) = listener.accept().await.map_err(text)?;
            stream.set_nodelay(true).map_err(text)?;
            let model = model.clone();
            tokio::task::spawn_local(async move {
                let answer = |request| answer(request, model.clone());
                // The client closing its end is how every connection ends.
                let _ =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
            });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
    model: Option<Rc<RefCell<Model>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let answer = match (body, model) {
        (Err(error), _) => Err(error.to_string()),
        (Ok(body), None) => Ok(body),
        (Ok(body), Some(model)) => model.borrow_mut().predict(&body).map(Bytes::from),
    };
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(reason) => (StatusCode::BAD_REQUEST, Bytes::from(reason)),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

struct Model {
    instance: Box<dyn Instance>,
    input: std::sync::Arc<str>,
    interrupt: Interrupt,
}

impl Model {
    fn load() -> Result<Self, String> {
        let folder = std::env::var_os("SLUICE_BENCH_DIR").ok_or("SLUICE_BENCH_DIR is not set")?;
        let search = sluice::app::engine_search(None);
        let (engine, _) =
            sluice_engine::select(EngineChoice::Auto, &search).map_err(|error| error.to_string())?;
        let options = LoadOptions { threads: 1, spinning: false, max_batch_size: 0 };
        let path = PathBuf::from(folder).join("models/mlp.onnx");
        let model = engine.load(&path, &options).map_err(|error| error.to_string())?;
        let input = model.signature().inputs.first().ok_or("the model has no input")?.name.clone();
        let instance = model.instance().map_err(|error| error.to_string())?;
        Ok(Self { instance, input, interrupt: Interrupt::default() })
    }

    fn predict(&mut self, body: &[u8]) -> Result<Vec<u8>, String> {
        let question: Question<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        question.check().map_err(|error| format!("{error:?}"))?;
        let candidates: Option<Vec<&str>> =
            question.candidates.as_ref().map(|list| list.iter().map(|name| name.as_str()).collect());
        let logits = self.run(rows(&question))?;
        let scores: Vec<f64> = logits.iter().map(|logit| sigmoid(f64::from(*logit))).collect();
        let id = question.id.as_str();
        let json = match candidates {
            Some(candidates) => {
                let best = best_of(scores, question.k.unwrap_or(K_DEFAULT));
                let ranking = Ranking::new(id, &candidates, &best).map_err(|error| format!("{error:?}"))?;
                serde_json::to_vec(&ranking)
            }
            None => serde_json::to_vec(&Score { id, score: scores.first().copied().ok_or("no score")? }),
        };
        json.map_err(|error| error.to_string())
    }

    /// The model's logits for dense rows.
    fn run(&mut self, rows: Vec<u8>) -> Result<Vec<f32>, String> {
        let width = WIDTH as usize;
        let shape = Shape::new(&[rows.len() / (4 * width), width]).map_err(|error| error.to_string())?;
        let tensor = Tensor::dense(DType::F32, shape, rows.into()).map_err(|error| error.to_string())?;
        let inputs = [NamedTensor { name: self.input.clone(), tensor }];
        let output = self.instance.run(&[&inputs], &self.interrupt).map_err(|error| error.to_string())?;
        let logits = output.members.first().and_then(|outputs| outputs.first()).ok_or("no output")?;
        let bytes = logits.tensor.to_dense();
        Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// Dense rows, as the model takes them: one, or one for each candidate.
fn rows(question: &Question<'_>) -> Vec<u8> {
    let mut base = vec![0.0_f32; WIDTH as usize];
    for (name, value) in &question.features.0 {
        base[Fnv1a::of([name, "=", value]).index(WIDTH) as usize] += 1.0;
    }
    let bytes: Vec<u8> = base.iter().flat_map(|value| value.to_le_bytes()).collect();
    let Some(candidates) = &question.candidates else { return bytes };
    let mut rows = Vec::with_capacity(bytes.len() * candidates.len());
    for candidate in candidates {
        let place = candidate_prefix().and(candidate).index(WIDTH) as usize;
        let at = rows.len() + 4 * place;
        rows.extend_from_slice(&bytes);
        rows[at..at + 4].copy_from_slice(&(base[place] + 1.0).to_le_bytes());
    }
    rows
}
