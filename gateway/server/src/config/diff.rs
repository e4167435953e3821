//! What a reload would change.
//!
//! A reload is refused whole if [`restart_keys`] names anything. What is to be built
//! again is seen where it is built: that takes the digests of the files.

use super::types::Config;

/// The keys that differ and take effect only at start: addresses that are bound,
/// engines that are built, telemetry that is installed.
pub fn restart_keys(old: &Config, new: &Config) -> Vec<String> {
    let (a, b) = (&old.server, &new.server);
    let (c, d) = (&old.sandbox, &new.sandbox);
    let (e, f) = (&old.telemetry, &new.telemetry);
    // `ratio` is compared as bits: a NaN would never equal itself.
    let (e_ratio, f_ratio) = (e.sample_ratio.to_bits(), f.sample_ratio.to_bits());
    let differing = [
        ("server.http", a.http != b.http),
        ("server.grpc", a.grpc != b.grpc),
        ("server.admin", a.admin != b.admin),
        ("server.tls", a.tls != b.tls),
        ("server.admin_tls", a.admin_tls != b.admin_tls),
        ("server.limits", a.limits != b.limits),
        ("server.shared_memory", a.shared_memory != b.shared_memory),
        ("server.drain_ms", a.drain != b.drain),
        ("server.drain_delay_ms", a.drain_delay != b.drain_delay),
        ("engine.onnxruntime_library", old.engine.onnxruntime_library != new.engine.onnxruntime_library),
        ("sandbox.guest_threads", c.guest_threads != d.guest_threads),
        ("sandbox.instances_max", c.instances_max != d.instances_max),
        ("sandbox.memory_bytes_max", c.memory_bytes_max != d.memory_bytes_max),
        ("sandbox.cache_dir", c.cache_dir != d.cache_dir),
        ("sandbox.epoch_tick_ms", c.epoch_tick != d.epoch_tick),
        ("state", old.state != new.state),
        ("verify", old.verify != new.verify),
        ("egress", old.egress != new.egress),
        ("telemetry.otlp_endpoint", e.otlp_endpoint != f.otlp_endpoint),
        ("telemetry.sample_ratio", e_ratio != f_ratio),
        ("telemetry.service_name", e.service_name != f.service_name),
        ("telemetry.log_format", e.log_format != f.log_format),
        ("telemetry.log_filter", e.log_filter != f.log_filter),
        ("telemetry.triton_trace_file", e.triton_trace_file != f.triton_trace_file),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
}
