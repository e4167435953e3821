;; P17. A result past the end of the memory.
;;; handle
(i32.const 0x7ffffff0)
