;; P2. WebAssembly, but no component.
;;; component
(module (memory 1) (func (export "handle")))
