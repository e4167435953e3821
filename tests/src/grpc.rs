//! A gRPC client that is not ours, with the types of the contract.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;
use tonic::client::Grpc as Raw;
use tonic::codec::{CompressionEncoding, Streaming};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{IntoStreamingRequest, Request, Response, Status};
use tonic_prost::ProstCodec;

/// The messages of the inference service.
#[allow(missing_docs, clippy::all, reason = "made from the contract, see scripts/generate-proto.sh")]
pub mod inference {
    include!("../../gateway/server/proto/types/inference.rs.in");
}

/// The messages of the health check.
#[allow(missing_docs, clippy::all, reason = "made from the contract, see scripts/generate-proto.sh")]
pub mod health {
    include!("../../gateway/server/proto/types/grpc.health.v1.rs.in");
}

/// The messages of server reflection.
#[allow(missing_docs, clippy::all, reason = "made from the contract, see scripts/generate-proto.sh")]
pub mod reflection {
    include!("../../gateway/server/proto/types/grpc.reflection.v1.rs.in");
}

use inference::ModelInferRequest;
use inference::model_infer_request::InferInputTensor;

/// Talks to one address. Clones share the connection.
#[derive(Clone)]
pub struct Grpc {
    channel: Channel,
    gzip: bool,
}

impl Grpc {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.timeout(Duration::from_secs(30)).connect().await.expect("connected");
        Self { channel, gzip: false }
    }

    /// The same client, whose messages are compressed.
    #[must_use]
    pub fn with_gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    fn raw(&self) -> Raw<Channel> {
        let raw = Raw::new(self.channel.clone()).max_decoding_message_size(256 << 20);
        if !self.gzip {
            return raw;
        }
        raw.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip)
    }

    /// Calls a method with one message and gets one.
    ///
    /// # Errors
    /// The call's status.
    pub async fn call<Q, R>(&self, path: &'static str, request: Request<Q>) -> Result<Response<R>, Status>
    where
        Q: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        let mut raw = self.raw();
        raw.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        raw.unary(request, http::uri::PathAndQuery::from_static(path), ProstCodec::default()).await
    }

    /// Calls a method with a stream of messages and gets one.
    ///
    /// # Errors
    /// The call's status.
    pub async fn stream<Q, R>(
        &self,
        path: &'static str,
        requests: impl IntoStreamingRequest<Message = Q>,
    ) -> Result<Response<Streaming<R>>, Status>
    where
        Q: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        let mut raw = self.raw();
        raw.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        raw.streaming(
            requests.into_streaming_request(),
            http::uri::PathAndQuery::from_static(path),
            ProstCodec::default(),
        )
        .await
    }

    /// `ModelInfer`.
    ///
    /// # Errors
    /// The call's status.
    pub async fn infer(&self, request: ModelInferRequest) -> Result<inference::ModelInferResponse, Status> {
        self.call(INFER, Request::new(request)).await.map(Response::into_inner)
    }
}

/// The path of `ModelInfer`.
pub const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The path of `ModelStreamInfer`.
pub const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// A request with one input, raw.
pub fn request(model: &str, name: &str, datatype: &str, shape: &[i64], raw: Vec<u8>) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![input(name, datatype, shape)],
        raw_input_contents: vec![raw.into()],
        ..ModelInferRequest::default()
    }
}

/// An input without its data.
pub fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

/// The reason code in an error's metadata.
pub fn code(metadata: &MetadataMap) -> &str {
    metadata.get("x-sluice-code").and_then(|code| code.to_str().ok()).unwrap_or_default()
}

/// Integers as a raw tensor.
pub fn int64(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
