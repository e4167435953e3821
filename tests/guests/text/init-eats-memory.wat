;; P7, P8. Takes memory in `init` until there is no more, and crashes.
;;; init
(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
(unreachable)
