;; P13. One input twice.
;;; process
(call $runs (i32.const 1032) (i32.const 11) (i32.const 2) (i32.const 16) (i32.const 2))
