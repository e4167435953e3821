;; P8. Starts with 4 GiB of memory.
;;; fields
(memory 65536)
;;; handle
(unreachable)
