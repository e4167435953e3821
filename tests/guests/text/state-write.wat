;; P19. Leaves something on every page of 8 MiB, in a table and in a global, and answers
;; whether it found any of it: `text/plain` if so, `clean` if not.
;;; fields
(global $left (mut i32) (i32.const 0))
(table $left-there 8 funcref)
(elem declare func $answer)
(data (i32.const 1024) "clean")
;;; locals
(local $at i32)
;;; handle
(if (i32.or (global.get $left) (i32.eqz (ref.is_null (table.get $left-there (i32.const 3)))))
    (then (return (call $answer (i32.const 16) (i32.const 10)))))
(global.set $left (i32.const 1))
(table.set $left-there (i32.const 3) (ref.func $answer))
(drop (memory.grow (i32.const 128)))
(local.set $at (i32.const 131072))
(loop $look
    (if (i32.or (i32.load8_u (local.get $at)) (i32.load8_u offset=4095 (local.get $at)))
        (then (return (call $answer (i32.const 16) (i32.const 10)))))
    (local.set $at (i32.add (local.get $at) (i32.const 4096)))
    (br_if $look (i32.lt_u (local.get $at) (i32.const 8519680))))
(memory.fill (i32.const 131072) (i32.const 83) (i32.const 8388608))
(call $answer (i32.const 1024) (i32.const 5))
