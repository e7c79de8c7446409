//! Text to tokens and tokens to text, in whole UTF-8 characters.
