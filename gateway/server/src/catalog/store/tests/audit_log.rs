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
fn the_audit_log_keeps_its_last_lines_and_nobodys_flood_pushes_out_what_others_did() {
    let (dir, store) = fresh();
    store.note(AuditEntry { actor: "careful".to_owned(), ..audit("x") }).expect("notes");
    for _ in 0..limits::AUDIT_ENTRIES_MAX + 20 {
        store.note(audit("x")).expect("notes");
    }
    drop(store);
    let store = Store::open(&root(&dir)).expect("opens");
    store.note(audit("one more")).expect("notes");
    let lines = store.audit(0, limits::AUDIT_PAGE_MAX).expect("reads");
    assert_eq!(lines.len() as u64, limits::AUDIT_ENTRIES_MAX);
    assert_eq!((&*lines[0].actor, lines[0].sequence, lines[1].sequence), ("careful", 1, 24));
    let newest = store.newest_audit(2).expect("reads");
    assert_eq!(newest, lines[lines.len() - 2..]);
}
