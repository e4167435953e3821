;; P17. A text in either of two encodings, that ends past the end (RUSTSEC-2026-0093).
;;; encoding
latin1+utf16
;;; handle
(call $failure (i32.const 422) (i32.const 1024) (i32.const 0x90000000))
