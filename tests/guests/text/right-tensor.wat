;; P13, as it should be: one row of four numbers.
;;; process
(call $run (i32.const 1032) (i32.const 11) (i32.const 2) (i32.const 16))
