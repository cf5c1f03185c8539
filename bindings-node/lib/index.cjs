/** The entry point for `require`, with the same classes and buckets as `import` gives. */
module.exports = require('./index.js');
