;; P10. Reads past the end of its memory.
;;; handle
(drop (i32.load (i32.const 0x7ffffff0))) (unreachable)
