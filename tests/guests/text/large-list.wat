;; P14. A list of 80 MiB that is there.
;;; handle
(drop (memory.grow (i32.const 1400)))
(call $answer (i32.const 1024) (i32.const 83886080))
