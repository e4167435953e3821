;; P17. The same at an odd address.
;;; encoding
latin1+utf16
;;; handle
(call $failure (i32.const 422) (i32.const 1025) (i32.const 0x80000004))
