// One copy of the classes and buckets, however many times they are imported or required.
module.exports = require('./index.js');
