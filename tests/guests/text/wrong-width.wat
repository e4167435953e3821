;; P13. Five columns where the model takes four.
;;; process
(i32.store (i32.const 404) (i32.const 5))
(call $run (i32.const 1032) (i32.const 11) (i32.const 2) (i32.const 20))
