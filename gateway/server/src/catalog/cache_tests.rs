//! What the response cache promises.

use sluice_tensor::{DType, Shape};

use super::*;
use crate::error::{Error, Kind};
use crate::observe::SpanCounters;

fn cache(bytes_max: usize) -> (Arc<ResponseCache>, ModelCache) {
    let metrics = Arc::new(Metrics::new(SpanCounters::default()));
    let cache = ResponseCache::new(bytes_max, Arc::clone(&metrics));
    let model = ModelCache::new(&cache, &metrics.statistics(&"m".into(), "1"), &metrics.model("m"));
    (cache, model)
}

fn tensor(name: &str, dtype: DType, dims: &[usize], data: &[u8]) -> NamedTensor {
    let shape = Shape::new(dims).expect("a shape");
    let tensor = Tensor::dense(dtype, shape, Bytes::copy_from_slice(data)).expect("fits");
    NamedTensor { name: name.into(), tensor }
}

fn kept(entries: &Entries) -> usize {
    entries.by_model.values().map(BTreeMap::len).sum()
}

fn bytes(data: &[u8]) -> NamedTensor {
    tensor("x", DType::U8, &[1, data.len()], data)
}

/// Asks with `input`; gives what came, and whether the model ran.
async fn ask(model: &ModelCache, input: NamedTensor, answer: Result<NamedTensor>) -> (Result<Vec<u8>>, bool) {
    let mut has_run = false;
    let run = |_| {
        has_run = true;
        async { answer.map(|one| vec![one]) }
    };
    let outcome = model.through(CheckedInputs { inputs: vec![input], rows: 1 }, run).await;
    (outcome.map(|outputs| outputs[0].tensor.to_dense().to_vec()), has_run)
}

#[tokio::test]
async fn an_answer_is_given_again_and_an_error_is_not() {
    let (_, model) = cache(1 << 20);
    let failed = Err(Error::new(Kind::Engine, "failed"));
    assert!(ask(&model, bytes(b"a"), failed).await.0.is_err());
    let (outcome, ran) = ask(&model, bytes(b"a"), Ok(bytes(b"1"))).await;
    assert_eq!((outcome.expect("an answer"), ran), (b"1".to_vec(), true), "an error was kept");
    let (outcome, ran) = ask(&model, bytes(b"a"), Ok(bytes(b"2"))).await;
    assert_eq!((outcome.expect("an answer"), ran), (b"1".to_vec(), false));
    let read = model.statistics.read("m", "1").inference_stats;
    assert_eq!((read.cache_hit.count, read.cache_miss.count), (1, 2));
}

#[test]
fn requests_that_differ_in_anything_have_different_keys() {
    let two = |a: NamedTensor, b: NamedTensor| vec![a, b];
    let requests = [
        vec![tensor("x", DType::U8, &[1, 4], b"abcd")],
        vec![tensor("x", DType::I8, &[1, 4], b"abcd")],
        vec![tensor("x", DType::U8, &[2, 2], b"abcd")],
        vec![tensor("x", DType::U8, &[1, 4, 1], b"abcd")],
        vec![tensor("y", DType::U8, &[1, 4], b"abcd")],
        vec![tensor("x", DType::U8, &[1, 4], b"abce")],
        vec![tensor("x", DType::U8, &[1, 0], b"")],
        // The same bytes in a row, cut at different places.
        two(tensor("x", DType::U8, &[1, 3], b"abc"), tensor("y", DType::U8, &[1, 1], b"d")),
        two(tensor("x", DType::U8, &[1, 1], b"a"), tensor("y", DType::U8, &[1, 3], b"bcd")),
        two(tensor("xy", DType::U8, &[1, 1], b"a"), tensor("", DType::U8, &[1, 3], b"bcd")),
        vec![],
    ];
    let mut keys: Vec<_> = requests.iter().map(|inputs| key(inputs, 1000).expect("short")).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
    for key in keys {
        assert!(key.capacity() == key.len(), "its length was foreseen");
    }
}

#[tokio::test]
async fn the_size_is_a_bound_and_what_was_used_longest_ago_goes_first() {
    let entry = |number: u8| bytes(&[number; 1000]);
    let (cache, model) = cache(16 << 10);
    for number in 0..100 {
        ask(&model, entry(number), Ok(entry(number))).await.0.expect("an answer");
        assert!(!ask(&model, entry(0), Ok(entry(0))).await.1, "the one that is used stays");
        let entries = cache.entries.lock().expect("not poisoned");
        assert!(entries.bytes <= 16 << 10 && kept(&entries) == entries.by_use.len());
        let own = entries.by_model.values().flat_map(BTreeMap::values);
        assert_eq!(entries.bytes, own.map(|entry| entry.bytes).sum::<usize>());
    }
    assert!(!ask(&model, entry(99), Ok(entry(99))).await.1);
    assert!(ask(&model, entry(50), Ok(entry(50))).await.1, "long gone");
    cache.resize(1 << 10);
    assert!(cache.entries.lock().expect("not poisoned").by_model.is_empty());
}

#[tokio::test]
async fn what_is_larger_than_its_share_is_answered_and_not_kept() {
    let (cache, model) = cache(4 << 10);
    for _ in 0..2 {
        assert!(ask(&model, bytes(&[1; 2000]), Ok(bytes(b"1"))).await.1, "a large request");
        assert!(ask(&model, bytes(b"a"), Ok(bytes(&[1; 2000]))).await.1, "a large answer");
    }
    assert!(cache.entries.lock().expect("not poisoned").by_model.is_empty());
}

#[tokio::test]
async fn a_model_that_goes_takes_its_answers_along_and_no_others() {
    let (cache, first) = cache(1 << 20);
    let second = ModelCache::new(&cache, &first.statistics, &first.metrics);
    let third = ModelCache::new(&cache, &first.statistics, &first.metrics);
    for model in [&first, &second, &third] {
        for input in [b"a", b"b"] {
            assert!(ask(model, bytes(input), Ok(bytes(b"1"))).await.1, "nobody gets another's answer");
        }
    }
    drop(second);
    assert_eq!(kept(&cache.entries.lock().expect("not poisoned")), 4);
    assert!(!ask(&first, bytes(b"a"), Ok(bytes(b"2"))).await.1);
    assert!(!ask(&third, bytes(b"b"), Ok(bytes(b"2"))).await.1);
    drop((first, third));
    let entries = cache.entries.lock().expect("not poisoned");
    assert_eq!((entries.bytes, entries.by_use.len(), entries.by_model.len()), (0, 0, 0));
}
