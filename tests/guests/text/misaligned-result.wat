;; P17. A result at an odd address.
;;; handle
(i32.add (call $answer (i32.const 16) (i32.const 4)) (i32.const 1))
