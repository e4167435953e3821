;; P18. Asks for threads, which nobody gets.
;;; asks
wasi:thread/spawn@0.1.0
