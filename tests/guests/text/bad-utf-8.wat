;; P17. A text that is no UTF-8.
;;; handle
(i32.store8 (i32.const 1024) (i32.const 255))
(call $failure (i32.const 422) (i32.const 1024) (i32.const 4))
