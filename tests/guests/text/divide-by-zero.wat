;; P10. Divides by zero.
;;; handle
(drop (i32.div_u (i32.const 1) (i32.sub (local.get $len) (local.get $len)))) (unreachable)
