//! The audit log.

use super::*;

#[test]
fn every_change_and_every_refusal_has_one_line_in_order() {
    let (_dir, store) = fresh();
    upload(&store, "rank", "1", b"x").expect("uploads");
    let refusal = AuditEntry { outcome: "not_wasm".to_owned(), target: "é".repeat(5000), ..audit("upload") };
    store.note(refusal).expect("notes");
    activate(&store, "rank", "1").expect("activates");
    let lines = store.audit(0, 100).expect("reads");
    assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(lines[1].outcome, "not_wasm");
    assert_eq!(lines[1].target.len(), limits::TEXT_BYTES_MAX, "a long text is cut at a character");
    assert_eq!(store.audit(1, 1).expect("reads"), lines[1..2]);
    assert_eq!(store.audit(u64::MAX, 10).expect("reads"), []);
}

#[test]
fn the_audit_log_keeps_its_last_lines_only() {
    let (dir, store) = fresh();
    drop(store);
    // As if that many lines had been dropped already.
    let kept = limits::AUDIT_ENTRIES_MAX;
    let line =
        |sequence| serde_json::to_vec(&AuditRecord::new(sequence, timestamp::now(), audit("x"))).unwrap();
    for sequence in [1, kept] {
        tamper(&root(&dir), "audit", &tables::audit_key(sequence), &line(sequence));
    }
    let store = Store::open(&root(&dir)).expect("opens");
    store.note(audit("one more")).expect("notes");
    let lines = store.audit(0, 10).expect("reads");
    assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), [kept, kept + 1]);
}
