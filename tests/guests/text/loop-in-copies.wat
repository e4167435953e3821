;; P9. Never returns, and is always in a copy of 64 MiB, which nothing interrupts.
;;; handle
(drop (memory.grow (i32.const 1100)))
(loop $again
    (memory.copy (i32.const 131072) (i32.const 131136) (i32.const 67108864))
    (br $again))
(unreachable)
