/** The mark by which the classes of `tidegate`, of `tidegate-wasm` and of a second copy of either know each other's instances. */

/** Marks the instances of `ownClass`, so that those of the class of this name in another copy are `instanceof` it too. */
export function brand(ownClass, name) {
  const mark = Symbol.for(`tidegate.${name}`);
  Object.defineProperty(ownClass.prototype, mark, { value: true });
  Object.defineProperty(ownClass, Symbol.hasInstance, {
    value(instance) {
      // A class that a program derives inherits this function, and has its own instances only.
      if (this !== ownClass) return Function.prototype[Symbol.hasInstance].call(this, instance);
      return typeof instance === 'object' && instance !== null && instance[mark] === true;
    },
  });
}
