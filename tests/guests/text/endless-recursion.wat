;; P11. Calls itself for ever.
;;; fields
(func $deep (param i64) (result i64)
    (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
;;; handle
(drop (call $deep (i64.const 0))) (unreachable)
