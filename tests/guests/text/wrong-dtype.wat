;; P13. Integers where the model takes floats.
;;; process
(call $run (i32.const 1032) (i32.const 7) (i32.const 2) (i32.const 16))
