//! Tests of the statistics: what is charged to whom, and that tables stay small.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn phases() -> Phases {
    Phases { input: MILLISECOND, infer: 10 * MILLISECOND, output: 2 * MILLISECOND }
}

#[test]
fn every_member_of_a_batch_is_charged_with_the_whole_batch() {
    let statistics = Statistics::default();
    statistics.executed(3, 5, 6 * MILLISECOND, phases());
    let read = statistics.read("m", "1");
    assert_eq!((read.inference_count, read.execution_count), (5, 1));
    let of = |count, ms: u64| DurationStatistics { count, ns: ms * 1_000_000 };
    assert_eq!(read.inference_stats.queue, of(3, 6));
    assert_eq!(read.inference_stats.compute_infer, of(3, 30));
    let batch = BatchStatistics {
        batch_size: 5,
        compute_input: of(1, 1),
        compute_infer: of(1, 10),
        compute_output: of(1, 2),
    };
    assert_eq!(read.batch_stats, [batch]);
    assert!(read.last_inference > 1_600_000_000_000, "{}", read.last_inference);
}

#[test]
fn batch_sizes_are_exact_up_to_1024_and_bounded_above() {
    for rows in [1, 2, 64, 65, 1023, 1024] {
        assert_eq!(rows_at(place_of(rows)), rows);
    }
    assert_eq!(rows_at(place_of(1025)), 1088);
    assert_eq!(rows_at(place_of(65_536)), 65_536);
    let statistics = Statistics::default();
    for rows in [0, 1, 2000, 65_536, usize::MAX] {
        statistics.executed(1, rows, Duration::ZERO, phases());
    }
    let sizes: Vec<usize> = statistics.read("m", "1").batch_stats.iter().map(|one| one.batch_size).collect();
    assert_eq!(sizes, [1, 2048, 65_536, rows_at(CHUNKS * CHUNK_SIZES - 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_is_cancelled_and_after_its_deadline_rejected() {
    let statistics = Statistics::default();
    drop(statistics.request(Instant::now() + MILLISECOND));
    let late = statistics.request(Instant::now() + MILLISECOND);
    tokio::time::advance(2 * MILLISECOND).await;
    drop(late);
    statistics.request(Instant::now()).finished(Ok(()));
    statistics.request(Instant::now()).finished(Err(Failure::Backend));
    let failed: Vec<_> = statistics.failed().collect();
    assert_eq!(failed, [("REJECTED", 1), ("CANCELED", 1), ("BACKEND", 1), ("OTHER", 0)]);
    let read = statistics.read("m", "1").inference_stats;
    assert_eq!((read.success.count, read.fail.count), (1, 3));
    assert_eq!(read.fail.ns, 2_000_000);
}

#[test]
fn parts_of_streams_are_keyed_by_their_number_and_bounded() {
    let statistics = Statistics::default();
    statistics.part(0, PartOutcome::Success, MILLISECOND, MILLISECOND);
    statistics.part(2, PartOutcome::Empty, MILLISECOND, MILLISECOND);
    statistics.part(usize::MAX, PartOutcome::Fail, MILLISECOND, MILLISECOND);
    let json = serde_json::to_value(statistics.read("m", "1")).expect("serializes");
    let parts = json["response_stats"].as_object().expect("a map");
    assert_eq!(parts.keys().collect::<Vec<_>>(), ["0", "2", "63"]);
    assert_eq!(parts["0"]["success"], serde_json::json!({ "count": 1, "ns": 2_000_000 }));
    assert_eq!(parts["0"]["cancel"], serde_json::json!({ "count": 0, "ns": 0 }));
    assert_eq!(json["memory_usage"], serde_json::json!([]));
}
