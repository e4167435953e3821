;; P17. UTF-16 at an odd address (RUSTSEC-2026-0092).
;;; encoding
utf16
;;; handle
(call $failure (i32.const 422) (i32.const 1025) (i32.const 4))
