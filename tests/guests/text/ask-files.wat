;; P18. Asks for files. There are none, and where the configuration is strict that is said.
;;; asks
wasi:filesystem/types@0.2.0
