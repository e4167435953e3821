;; P13. No result for the one item.
;;; process
(i32.const 4096)
