;; P13. One dimension where the model takes two.
;;; process
(i32.store (i32.const 400) (i32.const 4))
(call $run (i32.const 1032) (i32.const 11) (i32.const 1) (i32.const 16))
