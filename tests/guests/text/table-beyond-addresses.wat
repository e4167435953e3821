;; P8. A table that is larger than its addresses (RUSTSEC-2026-0114).
;;; fields
(table 0xffffffff funcref)
;;; handle
(unreachable)
