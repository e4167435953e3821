;; P17. A number that stands for no case of a variant.
;;; handle
(drop (call $answer (i32.const 16) (i32.const 4)))
(i32.store8 (i32.const 256) (i32.const 9))
(i32.const 256)
