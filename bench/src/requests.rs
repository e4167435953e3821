//! What is sent to a server: path, headers and bodies, and how an answer is checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::grpc;
use crate::load::{self, Check, LoadPlan, LoadReport, Protocol};
use crate::server::Process;
use crate::workload::Workload;

/// Bodies of the small model, each with numbers of its own.
const SIMPLE_BODIES: i32 = 64;

/// Elements of each input of the small model.
const SIMPLE_WIDTH: i32 = 16;

/// Load before each measurement: connections are open and code is in the caches.
const WARMUP: Duration = Duration::from_millis(200);

/// What a closed loop saw, and what a request cost the server.
#[derive(Debug, Clone)]
pub struct Costed {
    /// What was seen.
    pub report: LoadReport,
    /// Processor time, user and system, of all threads, for each request.
    pub cpu_us: f64,
}

/// Requests of one kind.
#[derive(Clone)]
pub struct Requests {
    /// What is spoken.
    pub protocol: Protocol,
    /// Their paths, in turns.
    pub paths: Vec<String>,
    /// Headers of all of them.
    pub headers: Vec<(String, String)>,
    /// What is sent, in turns.
    pub bodies: Arc<Vec<Bytes>>,
    /// What must come back.
    pub check: Check,
}

impl Requests {
    /// A pipeline's requests, to a pipeline of this name.
    pub fn pipeline(workload: &Workload, name: &str) -> Self {
        Self {
            protocol: Protocol::Http1,
            paths: vec![format!("/v1/models/{name}:predict")],
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            bodies: workload.bodies.clone(),
            check: workload.check.clone(),
        }
    }

    /// V2 with binary tensors, in and out, to the small model under this name: sums and
    /// differences of two times sixteen INT32.
    pub fn simple_binary(model: &str) -> Self {
        let input = |name: &str| {
            let parameters = json!({ "binary_data_size": SIMPLE_WIDTH * 4 });
            json!({ "name": name, "shape": [1, SIMPLE_WIDTH], "datatype": "INT32", "parameters": parameters })
        };
        let output = |name: &str| json!({ "name": name, "parameters": { "binary_data": true } });
        let head = json!({
            "inputs": [input("INPUT0"), input("INPUT1")],
            "outputs": [output("OUTPUT0"), output("OUTPUT1")],
        })
        .to_string();
        let bodies = (0..SIMPLE_BODIES).map(|number| {
            let (first, second) = operands(number);
            let mut body = head.clone().into_bytes();
            body.extend(first.iter().chain(&second).flat_map(|value| value.to_le_bytes()));
            Bytes::from(body)
        });
        Self {
            protocol: Protocol::Http1,
            paths: vec![format!("/v2/models/{model}/infer")],
            headers: vec![
                ("content-type".to_owned(), "application/octet-stream".to_owned()),
                ("inference-header-content-length".to_owned(), head.len().to_string()),
            ],
            bodies: Arc::new(bodies.collect()),
            check: Arc::new(check_binary),
        }
    }

    /// The same in JSON.
    pub fn simple_json(model: &str) -> Self {
        let bodies = (0..SIMPLE_BODIES).map(|number| {
            let (first, second) = operands(number);
            let input = |name: &str, data: Vec<i32>| {
                json!({ "name": name, "shape": [1, SIMPLE_WIDTH], "datatype": "INT32", "data": data })
            };
            let body = json!({ "inputs": [input("INPUT0", first), input("INPUT1", second)] });
            Bytes::from(body.to_string())
        });
        Self {
            protocol: Protocol::Http1,
            paths: vec![format!("/v2/models/{model}/infer")],
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            bodies: Arc::new(bodies.collect()),
            check: Arc::new(check_json),
        }
    }

    /// The same over gRPC, with raw contents.
    pub fn simple_grpc(model: &str) -> Self {
        let bodies = (0..SIMPLE_BODIES).map(|number| {
            let (first, second) = operands(number);
            grpc::frame(&grpc::infer_request(model, [("INPUT0", &first), ("INPUT1", &second)]))
        });
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        Self {
            protocol: Protocol::Grpc,
            paths: vec!["/inference.GRPCInferenceService/ModelInfer".to_owned()],
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            bodies: Arc::new(bodies.collect()),
            check: Arc::new(check_grpc),
        }
    }

    /// The same requests with another header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same requests to all the others' paths too.
    #[must_use]
    pub fn spread(mut self, others: impl Iterator<Item = Self>) -> Self {
        self.paths.extend(others.flat_map(|other| other.paths));
        self
    }

    /// A closed loop of them.
    pub fn plan(&self, address: SocketAddr, concurrency: usize, duration: Duration) -> LoadPlan {
        LoadPlan {
            address,
            protocol: self.protocol,
            paths: self.paths.clone(),
            headers: self.headers.clone(),
            bodies: self.bodies.clone(),
            concurrency,
            warmup: WARMUP,
            duration,
            check: None,
        }
    }

    /// A closed loop, run. No answers at all are an error; single wrong ones are in the report.
    ///
    /// # Errors
    /// Nothing was answered.
    pub async fn load(
        &self,
        address: SocketAddr,
        concurrency: usize,
        duration: Duration,
    ) -> Result<LoadReport, String> {
        let report = load::run(self.plan(address, concurrency, duration)).await;
        if report.requests == 0 {
            return Err(format!("{self:?}: no answers: {:?}", report.first_error));
        }
        Ok(report)
    }

    /// The same, with the server's processor time for a request, in microseconds: of the
    /// window in which requests are counted, with `warmup` before it.
    ///
    /// # Errors
    /// Nothing was answered.
    pub async fn load_with_cpu(
        &self,
        server: &Process,
        address: SocketAddr,
        concurrency: usize,
        warmup: Duration,
        duration: Duration,
    ) -> Result<Costed, String> {
        let plan = LoadPlan { warmup, ..self.plan(address, concurrency, duration) };
        let watch = async {
            tokio::time::sleep(warmup).await;
            let before = server.cpu_seconds()?;
            tokio::time::sleep(duration).await;
            Ok::<f64, String>(server.cpu_seconds()? - before)
        };
        let (report, cpu) = tokio::join!(load::run(plan), watch);
        if report.requests == 0 {
            return Err(format!("{self:?}: no answers: {:?}", report.first_error));
        }
        let cpu_us = 1e6 * cpu? / report.requests as f64;
        Ok(Costed { report, cpu_us })
    }

    /// Every body, and every answer looked at.
    ///
    /// # Errors
    /// An answer is wrong.
    pub async fn prove(&self, address: SocketAddr) -> Result<(), String> {
        let duration = Duration::from_millis(300);
        let plan = LoadPlan {
            warmup: Duration::ZERO,
            check: Some(self.check.clone()),
            ..self.plan(address, 8, duration)
        };
        let report = load::run(plan).await;
        match report.first_error {
            None if report.requests > 0 => Ok(()),
            error => Err(format!("{self:?}: wrong answers: {error:?}")),
        }
    }
}

/// The two inputs of a body.
fn operands(number: i32) -> (Vec<i32>, Vec<i32>) {
    let first = (0..SIMPLE_WIDTH).map(|place| number * SIMPLE_WIDTH + place);
    let second = (0..SIMPLE_WIDTH).map(|place| 1000 - number * place);
    (first.collect(), second.collect())
}

/// Sums, and then differences.
fn wanted(index: usize) -> Result<Vec<i32>, String> {
    let (first, second) = operands(i32::try_from(index).map_err(|error| error.to_string())?);
    let pairs = || first.iter().zip(&second);
    Ok(pairs().map(|(a, b)| a + b).chain(pairs().map(|(a, b)| a - b)).collect())
}

fn check_binary(index: usize, answer: &[u8]) -> Result<(), String> {
    let data: Vec<u8> = wanted(index)?.iter().flat_map(|value| value.to_le_bytes()).collect();
    if answer.ends_with(&data) { Ok(()) } else { Err("sums and differences are wrong".to_owned()) }
}

/// Each output is a field of its own.
fn check_grpc(index: usize, answer: &[u8]) -> Result<(), String> {
    let wanted = wanted(index)?;
    for output in wanted.chunks(wanted.len() / 2) {
        let data: Vec<u8> = output.iter().flat_map(|value| value.to_le_bytes()).collect();
        if !answer.windows(data.len()).any(|window| window == data) {
            return Err("sums or differences are wrong".to_owned());
        }
    }
    Ok(())
}

fn check_json(index: usize, answer: &[u8]) -> Result<(), String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let outputs = answer["outputs"].as_array().ok_or("no outputs")?;
    let data = outputs.iter().filter_map(|output| output["data"].as_array()).flatten();
    let got: Vec<Option<i64>> = data.map(Value::as_i64).collect();
    let wanted: Vec<Option<i64>> = wanted(index)?.into_iter().map(|value| Some(i64::from(value))).collect();
    if got == wanted { Ok(()) } else { Err(format!("{answer} has wrong sums or differences")) }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.paths.first().map_or("nowhere", String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_are_told_from_others() {
        let right: Vec<u8> =
            wanted(3).expect("a body").iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(check_binary(3, &right), Ok(()));
        assert!(check_binary(4, &right).is_err());
        let outputs = |values: &[i32]| json!({ "outputs": [{ "data": values }] }).to_string();
        let values = wanted(3).expect("a body");
        assert_eq!(check_json(3, outputs(&values).as_bytes()), Ok(()));
        assert!(check_json(3, outputs(&values[1..]).as_bytes()).is_err());
    }
}
