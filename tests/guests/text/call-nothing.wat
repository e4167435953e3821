;; P10. Calls an element of a table that is empty.
;;; fields
(table 1 funcref)
(type $nothing (func))
;;; handle
(call_indirect (type $nothing) (i32.const 0)) (unreachable)
