//! The table of methods: each with who may call it, as its twin over HTTP.

use crate::auth::Access;

/// What a method does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    ServerLive,
    ServerReady,
    ModelReady,
    ServerMetadata,
    ModelMetadata,
    Infer,
    Stream,
    ModelConfig,
    Statistics,
    RepositoryIndex,
    RepositoryLoad,
    RepositoryUnload,
    SystemMemoryStatus,
    SystemMemoryRegister,
    SystemMemoryUnregister,
    CudaMemoryStatus,
    CudaMemoryRegister,
    CudaMemoryUnregister,
    TraceSetting,
    LogSettings,
    HealthCheck,
    HealthWatch,
    Reflection,
}

/// One row of the table.
#[derive(Debug)]
pub struct Rpc {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    pub(super) call: Call,
}

macro_rules! inference {
    ($name:literal) => {
        concat!("/inference.GRPCInferenceService/", $name)
    };
}

const fn row(path: &'static str, access: Access, call: Call) -> Rpc {
    Rpc { path, access, call }
}

/// Every method that is served. The most frequent one is found first.
pub static METHODS: [Rpc; 24] = {
    use Access::{Known, Models, Predict, Public, Settings};
    [
        row(inference!("ModelInfer"), Predict, Call::Infer),
        row(inference!("ModelStreamInfer"), Predict, Call::Stream),
        row(inference!("ServerLive"), Public, Call::ServerLive),
        row(inference!("ServerReady"), Public, Call::ServerReady),
        row(inference!("ModelReady"), Predict, Call::ModelReady),
        row(inference!("ServerMetadata"), Predict, Call::ServerMetadata),
        row(inference!("ModelMetadata"), Predict, Call::ModelMetadata),
        row(inference!("ModelConfig"), Predict, Call::ModelConfig),
        row(inference!("ModelStatistics"), Predict, Call::Statistics),
        row(inference!("RepositoryIndex"), Predict, Call::RepositoryIndex),
        row(inference!("RepositoryModelLoad"), Models, Call::RepositoryLoad),
        row(inference!("RepositoryModelUnload"), Models, Call::RepositoryUnload),
        row(inference!("SystemSharedMemoryStatus"), Predict, Call::SystemMemoryStatus),
        row(inference!("SystemSharedMemoryRegister"), Predict, Call::SystemMemoryRegister),
        row(inference!("SystemSharedMemoryUnregister"), Predict, Call::SystemMemoryUnregister),
        row(inference!("CudaSharedMemoryStatus"), Predict, Call::CudaMemoryStatus),
        row(inference!("CudaSharedMemoryRegister"), Predict, Call::CudaMemoryRegister),
        row(inference!("CudaSharedMemoryUnregister"), Predict, Call::CudaMemoryUnregister),
        row(inference!("TraceSetting"), Settings, Call::TraceSetting),
        row(inference!("LogSettings"), Settings, Call::LogSettings),
        row("/grpc.health.v1.Health/Check", Public, Call::HealthCheck),
        row("/grpc.health.v1.Health/Watch", Public, Call::HealthWatch),
        row("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Known, Call::Reflection),
        row("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Known, Call::Reflection),
    ]
};

/// The method of that path.
pub(super) fn find(path: &str) -> Option<&'static Rpc> {
    METHODS.iter().find(|rpc| rpc.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::grpc::schema::SCHEMA;

    #[test]
    fn every_method_of_the_contract_is_served() {
        let declared: Vec<String> = SCHEMA
            .symbols
            .keys()
            .filter_map(|symbol| {
                let (service, method) = symbol.rsplit_once('.')?;
                SCHEMA.services.contains(&service.to_owned()).then(|| format!("/{service}/{method}"))
            })
            .collect();
        assert_eq!(declared.len(), METHODS.len());
        for path in declared {
            assert!(find(&path).is_some(), "{path}");
        }
    }
}
