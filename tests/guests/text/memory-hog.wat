;; P12. Takes memory until there is no more, and crashes.
;;; handle
(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
(unreachable)
