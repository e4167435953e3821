;; P14. Answers with 65,536 sparse rows of four columns, which share four million entries,
;; all zeros of one place: a quarter of a million million additions for who writes them out.
;;; handle
(drop (memory.grow (i32.const 514)))
(i32.store (i32.const 512) (i32.const 16)) (i32.store (i32.const 516) (i32.const 4))
(i32.store8 (i32.const 520) (i32.const 1))
(i32.store (i32.const 524) (i32.const 4))
(i32.store (i32.const 528) (i32.const 131072)) (i32.store (i32.const 532) (i32.const 4000000))
(i32.store (i32.const 536) (i32.const 131072)) (i32.store (i32.const 540) (i32.const 4000000))
(i32.store (i32.const 544) (i32.const 131072)) (i32.store (i32.const 548) (i32.const 65537))
(i32.store (i32.const 552) (i32.const 131072)) (i32.store (i32.const 556) (i32.const 0))
(i32.store (i32.const 560) (i32.const 131072)) (i32.store (i32.const 564) (i32.const 0))
(i32.store8 (i32.const 256) (i32.const 0)) (i32.store8 (i32.const 260) (i32.const 1))
(i32.store (i32.const 264) (i32.const 512)) (i32.store (i32.const 268) (i32.const 1))
(i32.const 256)
