;; P8. A table of ten million elements.
;;; fields
(table 10000000 funcref)
;;; handle
(unreachable)
