;; P13. One byte more than the shape says.
;;; process
(call $run (i32.const 1032) (i32.const 11) (i32.const 2) (i32.const 17))
