;; P13. A dimension of -1.
;;; process
(i32.store (i32.const 400) (i32.const -1))
(call $run (i32.const 1032) (i32.const 11) (i32.const 2) (i32.const 16))
