;; P13, P17. A number that stands for no dtype.
;;; process
(call $run (i32.const 1032) (i32.const 200) (i32.const 2) (i32.const 16))
