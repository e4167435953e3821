;; P13. No input at all.
;;; process
(call $runs (i32.const 1032) (i32.const 11) (i32.const 2) (i32.const 16) (i32.const 0))
