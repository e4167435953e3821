//! Configs around the guests of `tests/guests`.

/// A pipeline `hostile` that misbehaves on demand, and one `good` that shares its
/// model and sandbox.
pub const HOSTILE: &str = r#"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    max_batch_size = 16
    [plugins.hostile]
    file = "{repo}/tests/guests/dist/hostile.wasm"
    config = { input = "x", columns = 4 }
    memory_bytes = 33_554_432
    call_timeout_ms = 300
    [plugins.echo]
    file = "{repo}/tests/guests/dist/echo.wasm"
    call_timeout_ms = 5000
    [plugins.counter]
    file = "{repo}/tests/guests/dist/echo.wasm"
    call_timeout_ms = 5000
    reuse = 100
    [pipelines.hostile]
    pre = "hostile"
    model = "wide"
    post = "hostile"
    [pipelines.good]
    pre = "echo"
    model = "wide"
    [pipelines.reused]
    pre = "counter"
    model = "wide"
"#;

/// Plugins that wait for hostile uploads, beside a pipeline `good` that shares their model
/// and sandbox.
pub const UPLOADS: &str = r#"
    [state]
    dir = "state"
    [verify]
    cpu_ms = 4000
    memory_bytes = 734_003_200
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    max_batch_size = 16
    [plugins.echo]
    file = "{repo}/tests/guests/dist/echo.wasm"
    call_timeout_ms = 5000
    [plugins.hostile]
    call_timeout_ms = 300
    init_timeout_ms = 500
    bake_ms = 0
    [plugins.shapes]
    call_timeout_ms = 1000
    bake_ms = 0
    [plugins.strict]
    strict = true
    [pipelines.good]
    pre = "echo"
    model = "wide"
    [pipelines.hostile]
    plugin = "hostile"
    [pipelines.shapes]
    pre = "shapes"
    model = "wide"
"#;
