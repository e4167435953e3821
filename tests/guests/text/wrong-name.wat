;; P13. An input that the model does not have.
;;; fields
(data (i32.const 1040) "y")
;;; process
(call $run (i32.const 1040) (i32.const 11) (i32.const 2) (i32.const 16))
