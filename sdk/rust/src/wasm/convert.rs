//! The SDK's types and the contract's, one into the other. Everything is moved.

use std::time::Duration;

use super::Tensor;
use super::bindings::platform::sluice::plugin::{tensors, types};
use crate::{
    Answer, Body, Context, DType, Error, HostTensor, HttpAnswer, Inputs, Parameter, Payload, Request, Route,
    Tensor as Source, Tensors,
};

macro_rules! dtypes {
    ($($name:ident),+) => {
        impl From<tensors::Dtype> for DType {
            fn from(dtype: tensors::Dtype) -> Self {
                match dtype { $(tensors::Dtype::$name => Self::$name),+ }
            }
        }

        impl From<DType> for tensors::Dtype {
            fn from(dtype: DType) -> Self {
                match dtype { $(DType::$name => Self::$name),+ }
            }
        }
    };
}

dtypes!(Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64, Bytes);

impl From<types::Context> for Context {
    fn from(context: types::Context) -> Self {
        Self {
            request_id: context.request_id,
            pipeline: context.pipeline,
            plugin_version: context.plugin_version,
            time_left: Duration::from_millis(context.deadline_ms.into()),
            routing_key: context.routing_key,
            tenant: context.tenant,
            in_parts: context.in_parts,
            parameters: context.parameters.into_iter().map(|one| (one.name, one.value.into())).collect(),
            route: context.route.map(|route| Route {
                method: route.method,
                path: route.path,
                query: route.query,
                path_parameters: route.path_parameters,
            }),
        }
    }
}

impl From<types::ParameterValue> for Parameter {
    fn from(value: types::ParameterValue) -> Self {
        match value {
            types::ParameterValue::Bool(value) => Self::Bool(value),
            types::ParameterValue::Integer(number) => Self::Integer(number),
            types::ParameterValue::Number(number) => Self::Number(number),
            types::ParameterValue::Text(text) => Self::Text(text),
        }
    }
}

pub(super) fn request(context: types::Context, request: types::Request) -> Request {
    let payload = match request {
        types::Request::Body(body) => {
            Payload::Body(Body { content_type: body.content_type, data: body.data })
        }
        types::Request::Tensors(named) => Payload::Tensors(received(named)),
    };
    Request { context: context.into(), payload }
}

pub(super) fn received(named: Vec<types::NamedTensor>) -> Tensors {
    Tensors::new(named.into_iter().map(|one| (one.name, HostTensor(Tensor(one.tensor)))))
}

pub(super) fn inputs(inputs: Inputs) -> Vec<types::NamedSource> {
    sources(inputs.into_vec())
}

pub(super) fn sources(named: Vec<(String, Source)>) -> Vec<types::NamedSource> {
    named.into_iter().map(|(name, tensor)| types::NamedSource { name, source: source(tensor) }).collect()
}

fn source(tensor: Source) -> types::TensorSource {
    match tensor {
        Source::Value(value) => types::TensorSource::Value(types::TensorValue {
            dtype: value.dtype.into(),
            shape: value.shape,
            data: value.data,
        }),
        Source::Sparse(rows) => types::TensorSource::Sparse(types::SparseRows {
            columns: rows.columns,
            shared_columns: rows.shared_columns,
            shared_values: rows.shared_values,
            row_offsets: rows.row_offsets,
            own_columns: rows.own_columns,
            own_values: rows.own_values,
        }),
        Source::Handle(handle) => types::TensorSource::Handle(handle.0.0),
    }
}

impl From<Answer> for types::Answer {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Body(HttpAnswer { status, content_type, data }) => {
                Self::Body(types::HttpAnswer { status, content_type, data })
            }
            Answer::Tensors(tensors) => Self::Tensors(sources(tensors)),
            Answer::Sent => Self::Sent,
        }
    }
}

impl From<Error> for types::Failure {
    fn from(error: Error) -> Self {
        let retry_after = error.retry_after_seconds();
        let (status, message) = error.into_parts();
        Self { status, message, retry_after }
    }
}
