;; P17. A text that begins past the end of the memory.
;;; handle
(call $failure (i32.const 422) (i32.const 0x7fffffff) (i32.const 4))
