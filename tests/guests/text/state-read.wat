;; P19. Looks for what another plugin has left, on both ends of every page of 8 MiB.
;; Answers `text/plain` if there is anything, `clean` if not.
;;; fields
(data (i32.const 1024) "clean")
;;; locals
(local $at i32)
;;; handle
(drop (memory.grow (i32.const 128)))
(local.set $at (i32.const 131072))
(loop $look
    (if (i32.or (i32.load8_u (local.get $at)) (i32.load8_u offset=4095 (local.get $at)))
        (then (return (call $answer (i32.const 16) (i32.const 10)))))
    (local.set $at (i32.add (local.get $at) (i32.const 4096)))
    (br_if $look (i32.lt_u (local.get $at) (i32.const 8519680))))
(call $answer (i32.const 1024) (i32.const 5))
