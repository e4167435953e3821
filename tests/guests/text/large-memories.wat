;; P8. Memories that are each within the limit and together are not.
;;; fields
(memory 1500) (memory 1500) (memory 1500) (memory 1500) (memory 1500) (memory 1500)
;;; handle
(unreachable)
