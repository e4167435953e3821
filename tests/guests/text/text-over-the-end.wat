;; P17. A text that ends past the end of all addresses.
;;; handle
(call $failure (i32.const 422) (i32.const -2) (i32.const 4))
