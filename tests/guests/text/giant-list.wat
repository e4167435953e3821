;; P14. A list that is said to have 2 GiB.
;;; handle
(call $answer (i32.const 1024) (i32.const 0x7fffffff))
