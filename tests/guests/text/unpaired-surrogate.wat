;; P17. UTF-16 with half of a character (RUSTSEC-2026-0091).
;;; encoding
utf16
;;; handle
(i32.store16 (i32.const 1024) (i32.const 0xd800))
(call $failure (i32.const 422) (i32.const 1024) (i32.const 1))
